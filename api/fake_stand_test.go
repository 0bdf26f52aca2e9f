package api

import (
	"context"
	"strings"
	"time"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/webhooks"
)

// fakeStand is what waits.
type fakeStand struct {
	meter.Stand
	backlog        webhooks.Backlog
	reconciliation billing.Reconciliation
}

func (s *fakeStore) Stand(ctx context.Context) (m meter.Stand, b webhooks.Backlog, err error) {
	err = s.call(ctx, func() error { m, b = s.stand.Stand, s.stand.backlog; return nil })
	return m, b, err
}

func (s *fakeStore) OpenExports(ctx context.Context) (open []billing.Export, err error) {
	err = s.call(ctx, func() error {
		for _, e := range s.exports {
			if !e.Stage.Ended() {
				open = append(open, e)
			}
		}
		return nil
	})
	return open, err
}

func (s *fakeStore) Reconcile(ctx context.Context, from, to calendar.Day) (found billing.Reconciliation, err error) {
	err = s.call(ctx, func() error {
		found = s.stand.reconciliation
		found.From, found.To = from, to
		found.Compared, found.Differences = notNil(found.Compared), notNil(found.Differences)
		return nil
	})
	return found, err
}

func (s *fakeStore) SearchOrganizations(ctx context.Context, begin string, limit int) (found []accounts.Organization, err error) {
	err = s.call(ctx, func() error {
		for _, o := range s.organizations {
			if strings.HasPrefix(strings.ToLower(o.Name), strings.ToLower(begin)) && len(found) < limit {
				found = append(found, o)
			}
		}
		return nil
	})
	return found, err
}

func (s *fakeStore) InstancesSince(ctx context.Context, since time.Time) (found []meter.Instance, err error) {
	err = s.call(ctx, func() error {
		for _, i := range s.instances {
			if i.Status == meter.InstanceLive || !i.SeenAt.Before(since) {
				found = append(found, i)
			}
		}
		return nil
	})
	return found, err
}
