package stripesink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/stripetest"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/sinks"
)

var organization = uuid.MustParse("0199a000-0000-7000-8000-000000000001")

func statement(amounts ...string) sinks.Statement {
	s := sinks.Statement{
		Number: "TG-2026-10-000001", Organization: organization, Currency: "USD",
		PeriodStart: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), PeriodEnd: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
	}
	for i, amount := range amounts {
		s.Lines = append(s.Lines, sinks.Line{Position: i + 1, Description: fmt.Sprintf("Line %d", i+1), Amount: decimal.RequireFromString(amount)})
	}
	return s
}

// request is what was asked of Stripe.
type request struct {
	method, path, idempotency string
	form                      url.Values
}

// recorder stands before a server, and keeps what it is asked.
type recorder struct {
	mu       sync.Mutex
	requests []request
}

func (r *recorder) before(t *testing.T, next http.Handler) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
		body, err := io.ReadAll(in.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		form, err := url.ParseQuery(string(body))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		r.requests = append(r.requests, request{in.Method, in.URL.Path, in.Header.Get("Idempotency-Key"), form})
		r.mu.Unlock()
		in.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, in)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// Stripe's mock takes what is sent: it checks every parameter against Stripe's document.
func TestDeliverToStripesMock(t *testing.T) {
	t.Parallel()
	mock, err := url.Parse(stripetest.Start(t))
	require.NoError(t, err)
	var seen recorder
	sink := New(stripetest.Key, seen.before(t, httputil.NewSingleHostReverseProxy(mock))+"/")
	require.Equal(t, sinks.Stripe, sink.Name())

	id, err := sink.Deliver(t.Context(), "cus_123", statement("99.00", "0", "-12.34"))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(id, "in_"), id)
	require.Len(t, seen.requests, 4, "a look, an invoice and an item for each line that isn't zero")

	require.Equal(t, "GET /v1/invoices", seen.requests[0].method+" "+seen.requests[0].path)
	require.Equal(t, request{"POST", "/v1/invoices", "tollgate/TG-2026-10-000001", url.Values{
		"auto_advance": {"false"}, "currency": {"usd"}, "customer": {"cus_123"}, "description": {"Statement TG-2026-10-000001"},
		"metadata[tollgate_statement]": {"TG-2026-10-000001"}, "metadata[tollgate_organization]": {organization.String()},
		"pending_invoice_items_behavior": {"exclude"},
	}}, seen.requests[1])
	require.Equal(t, request{"POST", "/v1/invoiceitems", "tollgate/TG-2026-10-000001/1", url.Values{
		"amount": {"9900"}, "currency": {"usd"}, "customer": {"cus_123"}, "description": {"Line 1"}, "invoice": {id},
		"metadata[tollgate_statement]": {"TG-2026-10-000001"}, "metadata[tollgate_organization]": {organization.String()}, "metadata[tollgate_line]": {"1"},
		"period[start]": {"1790812800"}, "period[end]": {"1793491200"},
	}}, seen.requests[2])
	require.Equal(t, "-1234", seen.requests[3].form.Get("amount"))
	require.Equal(t, "tollgate/TG-2026-10-000001/3", seen.requests[3].idempotency)

	// What its document doesn't know is refused, and so would be a parameter of ours.
	_, err = New("none", mock.String()).Deliver(t.Context(), "cus_123", statement("1"))
	require.ErrorIs(t, err, sinks.ErrRefused)
	require.ErrorContains(t, err, "deliver statement TG-2026-10-000001 to stripe: stripe answered 401")
}

// account is as much of Stripe as it takes to see that nothing doubles: it keeps what is
// made, and forgets idempotency keys when it is told to.
type account struct {
	mu       sync.Mutex
	kept     map[string][]byte
	invoices []map[string]any
	items    []map[string]any
	// fail is answered instead of the creation with that number, from 1; 0: none.
	fail, status, created int
	// lost answers the failed creation only after it was made.
	lost bool
}

func (a *account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = r.ParseForm()
	if r.Method == http.MethodGet {
		data := a.invoices
		if strings.HasSuffix(r.URL.Path, "/invoiceitems") {
			data = nil
			for _, item := range a.items {
				if item["invoice"] == r.Form.Get("invoice") {
					data = append(data, item)
				}
			}
		}
		answer(w, http.StatusOK, map[string]any{"object": "list", "data": data, "has_more": false})
		return
	}
	a.created++
	if a.created == a.fail && !a.lost {
		a.refuse(w)
		return
	}
	idempotency := r.Header.Get("Idempotency-Key")
	made, there := a.kept[idempotency]
	if !there {
		made = a.create(r)
		a.kept[idempotency] = made
	}
	if a.created == a.fail {
		a.refuse(w)
		return
	}
	_, _ = w.Write(made)
}

func (a *account) refuse(w http.ResponseWriter) {
	answer(w, a.status, map[string]any{"error": map[string]any{"type": "invalid_request_error", "message": "No such customer"}})
}

func (a *account) create(r *http.Request) []byte {
	metadata := map[string]string{}
	for name := range r.PostForm {
		if inner, ok := strings.CutPrefix(name, "metadata["); ok {
			metadata[strings.TrimSuffix(inner, "]")] = r.PostForm.Get(name)
		}
	}
	object := map[string]any{"metadata": metadata, "invoice": r.PostForm.Get("invoice")}
	if strings.HasSuffix(r.URL.Path, "/invoiceitems") {
		object["id"] = fmt.Sprintf("ii_%d", len(a.items)+1)
		a.items = append(a.items, object)
	} else {
		object["id"] = fmt.Sprintf("in_%d", len(a.invoices)+1)
		a.invoices = append(a.invoices, object)
	}
	text, _ := json.Marshal(map[string]any{"id": object["id"], "metadata": metadata})
	return text
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

// However a delivery breaks off, the next one completes it, and nothing doubles: neither
// while Stripe knows the keys, nor when it has forgotten them.
func TestRetriesNeverDouble(t *testing.T) {
	t.Parallel()
	for _, forgotten := range []bool{false, true} {
		for _, lost := range []bool{false, true} {
			for fail := 1; fail <= 4; fail++ {
				t.Run(fmt.Sprintf("creation %d fails, lost %v, forgotten %v", fail, lost, forgotten), func(t *testing.T) {
					t.Parallel()
					stripe := &account{kept: map[string][]byte{}, fail: fail, status: http.StatusInternalServerError, lost: lost}
					server := httptest.NewServer(stripe)
					defer server.Close()
					sink := New(stripetest.Key, server.URL)
					_, err := sink.Deliver(t.Context(), "cus_1", statement("1.00", "2.00", "3.00"))
					require.Error(t, err)
					require.NotErrorIs(t, err, sinks.ErrRefused)
					if forgotten {
						clear(stripe.kept)
					}
					for range 2 {
						id, err := sink.Deliver(t.Context(), "cus_1", statement("1.00", "2.00", "3.00"))
						require.NoError(t, err)
						require.Equal(t, "in_1", id)
					}
					require.Len(t, stripe.invoices, 1)
					require.Len(t, stripe.items, 3)
				})
			}
		}
	}
}

func TestWhatIsTriedAgain(t *testing.T) {
	t.Parallel()
	for status, again := range map[int]bool{
		400: false, 401: false, 402: false, 403: false, 404: false, 409: true, 429: true, 500: true, 503: true,
	} {
		server := httptest.NewServer(&account{kept: map[string][]byte{}, fail: 1, status: status})
		_, err := New(stripetest.Key, server.URL).Deliver(t.Context(), "cus_1", statement("1.00"))
		server.Close()
		var failed *sinks.Error
		require.ErrorAs(t, err, &failed, status)
		require.Equal(t, again, failed.Retryable(), status)
		require.Equal(t, !again, errors.Is(err, sinks.ErrRefused), status)
		require.ErrorContains(t, err, "TG-2026-10-000001")
		require.ErrorContains(t, err, "No such customer")
	}
	// Nobody there.
	_, err := New(stripetest.Key, "http://127.0.0.1:1").Deliver(t.Context(), "cus_1", statement("1.00"))
	require.Error(t, err)
	require.NotErrorIs(t, err, sinks.ErrRefused)
}

func TestWhatStripeCantTake(t *testing.T) {
	t.Parallel()
	tooMany := make([]string, 251)
	for i := range tooMany {
		tooMany[i] = "1"
	}
	for says, refused := range map[string]sinks.Statement{
		"line 2: stripe has no such amount of USD: 0.001":      statement("1", "0.001"),
		"stripe takes at most 250 items an invoice, and there": statement(tooMany...),
	} {
		_, err := New(stripetest.Key, "http://127.0.0.1:1").Deliver(t.Context(), "cus_1", refused)
		require.ErrorIs(t, err, sinks.ErrRefused)
		require.ErrorContains(t, err, says)
	}
}

func TestMinorUnits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		amount   string
		currency money.Currency
		want     int64
	}{
		{"12.34", "USD", 1234},
		{"-0.01", "EUR", -1},
		{"500", "JPY", 500},
		{"500", "KRW", 500},
		{"1000", "XOF", 1000},
		{"5.12", "KWD", 5120},
		{"5.120", "BHD", 5120},
		{"5", "ISK", 500},
		{"1000", "UGX", 100000},
		{"10.45", "HUF", 1045},
		{"12.34", "TWD", 1234},
		{"7", "MGA", 7},
	} {
		got, err := minorUnits(decimal.RequireFromString(c.amount), c.currency)
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%s %s", c.amount, c.currency)
	}
	for amount, currency := range map[string]money.Currency{
		"0.001": "USD", "5.124": "KWD", "5.50": "ISK", "0.5": "JPY", "0.25": "UGX", "99999999999999999999": "EUR", "7.5": "MGA",
	} {
		_, err := minorUnits(decimal.RequireFromString(amount), currency)
		require.ErrorContains(t, err, "stripe has no such amount of "+string(currency))
	}
}
