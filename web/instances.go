package web

import (
	"time"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/meter"
)

// instancesPage shows the processes that meter, what waits, and what is stuck.
type instancesPage struct {
	Instances []instanceView
	// Gone counts those that ended within a day.
	Gone       int
	Operations gen.Operations
	Refusal    string
}

// Live is where it is shown anew.
func (p instancesPage) Live() string { return "/instances/live" }

// instanceView is an instance with how it is.
type instanceView struct {
	gen.Instance
	// Lag is how far what it has flushed is behind.
	Lag time.Duration
	// Own is what it has acknowledged and not written: of the process that answers alone.
	Own *gen.Operations
}

// Works says that it is live.
func (i instanceView) Works() bool { return i.Status == meter.InstanceLive }

// Behind says that it has not flushed for longer than it may be silent.
func (i instanceView) Behind() bool { return i.Works() && i.Lag.Seconds() > i.LostAfterSeconds }

// UnderWay is how many requests it had admitted and not settled at its last flush.
func (i instanceView) UnderWay() int {
	if i.Open == nil {
		return 0
	}
	return i.Open.Count
}

func (v *visit) instancesPage() (instancesPage, error) {
	var p instancesPage
	var found gen.InstanceList
	if err := v.get(&p.Operations, "/operations"); err != nil {
		return p, err
	}
	if err := v.get(&found, "/instances"); err != nil {
		return p, err
	}
	for _, one := range found.Instances {
		if one.Status == meter.InstanceStopped {
			p.Gone++
			continue
		}
		shown := instanceView{Instance: one, Lag: max(0, v.now.Sub(one.Watermark)).Truncate(time.Second)}
		if one.Id == p.Operations.Instance.Id {
			shown.Own = &p.Operations
		}
		p.Instances = append(p.Instances, shown)
	}
	return p, nil
}

func (v *visit) instances() error {
	return showPage(v, "instances", v.instancesPage)
}

func (v *visit) instancesLive() error {
	return v.stream("instances", "stand", func() (any, error) { return v.instancesPage() })
}

// flush makes an instance flush now.
func (v *visit) flush() error {
	err := v.send("POST", "/instances/"+v.r.PathValue("id")+"/flush", nil, nil)
	return v.after(err, "/instances?done=flushed", showAgain(v, "instances", v.instancesPage, func(p *instancesPage, says string) { p.Refusal = says }))
}
