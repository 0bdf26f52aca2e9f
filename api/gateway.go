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
		BodyTimeout:     s.config.BodyTimeout,
		MaxBody:         s.config.MaxGatewayBody, MaxUpstreamConns: s.config.MaxUpstreamConns,
		Logger: s.config.Logger,
		Organization: func(c *gin.Context) uuid.UUID {
			p, _ := callerOf(c)
			return p.organization
		},
	})
	methods := []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
	}
	to.Match(methods, gatewayRoute, s.admitCaller, gate.OneReading, s.enforcer.Middleware(), s.proxy.Serve)
}

// admitCaller finds out who calls the gateway, and counts the request while it is under way.
func (s *Server) admitCaller(c *gin.Context) {
	p, err := s.authenticate(c, s.config.Now(), roleTenant)
	if err != nil {
		s.fail(c, err)
		return
	}
	setPrincipal(c, p)
	if err := s.underWay.enter(p); err != nil {
		s.fail(c, err)
		return
	}
	defer s.underWay.leave(p)
	c.Next()
}

// gatewayOrganization says whose request to the gateway it is.
func (s *Server) gatewayOrganization(c *gin.Context) (*meter.Organization, bool) {
	p, _ := callerOf(c)
	organization, err := s.organization(c, p, s.config.Now())
	if err != nil {
		s.fail(c, err)
		return nil, false
	}
	return organization, true
}
