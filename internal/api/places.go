package api

import (
	"container/list"
	"sync"
)

// waitPlaces are the places of the requests that wait because of Prefer: wait. There are
// waitersMax.
//
// While some are free, any tenant gets one, within its own limit. When all are taken, a request of
// a tenant gets a place from the tenant that has most of them, if that one has at least two more.
// The request of that tenant which has waited for longest ends its wait. So tenants that want to
// wait all the time have the same number of places in the end, give or take one, and a tenant
// without a wait gets one whenever another has two. Equal tenants do not displace each other.
//
// It is safe for concurrent use.
type waitPlaces struct {
	placesMax int

	mu    sync.Mutex
	taken int
	// tenants has the places of each tenant that has one. The place that was taken first is in
	// front.
	tenants map[int32]*list.List
}

// waitPlace is the place of one request.
type waitPlace struct {
	tenant int32
	// displaced is closed when another tenant gets the place.
	displaced chan struct{}
	// entry is nil once the place is free again.
	entry *list.Element
}

func newWaitPlaces(placesMax int) *waitPlaces {
	return &waitPlaces{placesMax: placesMax, tenants: map[int32]*list.List{}}
}

// take returns a place for a request of the tenant, which may have tenantMax. It returns nil if
// there is none.
func (w *waitPlaces) take(tenant int32, tenantMax int) *waitPlace {
	w.mu.Lock()
	defer w.mu.Unlock()
	own := w.tenants[tenant]
	has := 0
	if own != nil {
		has = own.Len()
	}
	if has >= tenantMax || w.taken >= w.placesMax && !w.displace(has) {
		return nil
	}
	if own == nil {
		own = list.New()
		w.tenants[tenant] = own
	}
	p := &waitPlace{tenant: tenant, displaced: make(chan struct{})}
	p.entry = own.PushBack(p)
	w.taken++
	return p
}

// displace frees a place of the tenant that has most, for one that has the given number. It returns
// false if none has at least two more. The caller holds mu.
func (w *waitPlaces) displace(has int) bool {
	var most *list.List
	for _, places := range w.tenants {
		if most == nil || places.Len() > most.Len() {
			most = places
		}
	}
	if most == nil || most.Len() < has+2 {
		return false
	}
	p := most.Front().Value.(*waitPlace)
	close(p.displaced)
	w.free(p)
	return true
}

// leave frees the place, unless it was displaced.
func (w *waitPlaces) leave(p *waitPlace) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free(p)
}

// free frees the place. The caller holds mu.
func (w *waitPlaces) free(p *waitPlace) {
	if p.entry == nil {
		return
	}
	places := w.tenants[p.tenant]
	places.Remove(p.entry)
	p.entry = nil
	w.taken--
	if places.Len() == 0 {
		delete(w.tenants, p.tenant)
	}
}
