package api

import (
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/meter"
)

// addGateway puts the gate and the proxy in front of the upstream.
func (s *Server) addGateway(to *gin.RouterGroup) {
	s.proxy = gate.NewProxy(gate.ProxyConfig{
		Upstream:        s.config.Upstream,
		Prefix:          gatewayPrefix,
		ResponseTimeout: s.config.UpstreamTimeout,
		Logger:          s.config.Logger,
		Organization: func(c *gin.Context) uuid.UUID {
			p, _ := callerOf(c)
			return p.organization
		},
	})
	methods := []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
	}
	to.Match(methods, gatewayRoute, s.enforcer.Middleware(), func(c *gin.Context) {
		// The upstream's log and ours know a request by the same ID.
		c.Request.Header[gate.HeaderRequestID] = c.Writer.Header()[gate.HeaderRequestID]
		s.proxy.Serve(c)
	})
}

// gatewayOrganization says whose request to the gateway it is.
func (s *Server) gatewayOrganization(c *gin.Context) (*meter.Organization, bool) {
	now := s.config.Now()
	p, err := s.authenticate(c, now, roleTenant)
	if err != nil {
		s.fail(c, err)
		return nil, false
	}
	setPrincipal(c, p)
	organization, err := s.organization(c, p, now)
	if err != nil {
		s.fail(c, err)
		return nil, false
	}
	return organization, true
}
