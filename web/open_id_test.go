package web_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/oauth2-proxy/mockoidc"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/audit"
	"github.com/riverline/tollgate/web"
	"github.com/riverline/tollgate/web/openid"
)

// identities is an OpenID Connect provider, with the pages that send people to it.
type identities struct {
	*site
	provider *mockoidc.MockOIDC
	// forge makes another ID token of the one that is answered with; nil: it stays.
	forge func(token string) string
	pages *web.Pages
}

// told is somebody of whom the provider says something else than it would.
type told struct {
	*mockoidc.MockUser
	change func(jwt.MapClaims)
}

// Claims are those of the ID token.
func (u told) Claims(scope []string, base *mockoidc.IDTokenClaims) (jwt.Claims, error) {
	said, err := u.MockUser.Claims(scope, base)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(said)
	if err != nil {
		return nil, err
	}
	changed := jwt.MapClaims{}
	if err := json.Unmarshal(text, &changed); err != nil {
		return nil, err
	}
	u.change(changed)
	return changed, nil
}

func newIdentities(t *testing.T, s *site, changes ...func(*openid.Config, *web.Config)) *identities {
	t.Helper()
	provider, err := mockoidc.NewServer(nil)
	require.NoError(t, err)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	i := &identities{provider: provider}
	require.NoError(t, provider.AddMiddleware(i.forging))
	require.NoError(t, provider.Start(listener, nil))
	t.Cleanup(func() { _ = provider.Shutdown() })

	served := httptest.NewUnstartedServer(nil)
	other := *s
	other.t, other.url = t, "http://"+served.Listener.Addr().String()
	i.site = &other
	people := openid.Config{
		Issuer: provider.Issuer(), ClientID: provider.ClientID, ClientSecret: provider.ClientSecret, PublicURL: other.url,
		Scopes: []string{"openid", "profile", "email", "groups"}, GroupsClaim: "groups", OwnerClaim: openid.OwnerSubject,
		OrganizationClaim: "organization", Finance: []string{"finance", "treasury"}, Admin: []string{"platform"},
	}
	config := web.Config{API: s.api, SignIns: s.store, Logger: slog.New(slog.DiscardHandler)}
	for _, change := range changes {
		change(&people, &config)
	}
	config.OpenID = openid.New(people)
	i.pages = web.New(config)
	served.Config.Handler = i.pages
	served.Start()
	t.Cleanup(served.Close)
	return i
}

// forging makes another token where one is to be forged, and gives the provider a place where one signs out.
func (i *identities) forging(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != mockoidc.TokenEndpoint && r.URL.Path != mockoidc.DiscoveryEndpoint {
			next.ServeHTTP(w, r)
			return
		}
		recorder := httptest.NewRecorder()
		next.ServeHTTP(recorder, r)
		answer := map[string]any{}
		if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if token, ok := answer["id_token"].(string); ok && i.forge != nil {
			answer["id_token"] = i.forge(token)
		}
		if r.URL.Path == mockoidc.DiscoveryEndpoint {
			answer["end_session_endpoint"] = i.provider.Issuer() + "/end?from=test"
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(recorder.Code)
		_ = json.NewEncoder(w).Encode(answer)
	})
}

// somebody is a person of the provider's.
func somebody(subject string, groups ...string) *mockoidc.MockUser {
	return &mockoidc.MockUser{Subject: subject, PreferredUsername: subject + " Doe", Email: subject + "@example.com", EmailVerified: true, Groups: groups}
}

// callback has somebody go to the provider, and returns the path that the provider sends him back to.
func (i *identities) callback(b *browser, who mockoidc.User, next string) string {
	i.t.Helper()
	i.provider.QueueUser(who)
	to := b.get("/sign-in/openid?next=" + url.QueryEscape(next))
	require.Equal(i.t, http.StatusSeeOther, to.status, to.text(to.root))
	location, err := url.Parse(to.header.Get("Location"))
	require.NoError(i.t, err)
	for _, parameter := range []string{"state", "nonce", "code_challenge"} {
		require.NotEmpty(i.t, location.Query().Get(parameter))
	}
	require.Equal(i.t, "S256", location.Query().Get("code_challenge_method"))
	request, err := http.NewRequestWithContext(i.t.Context(), http.MethodGet, location.String(), nil)
	require.NoError(i.t, err)
	answer, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(i.t, err)
	require.NoError(i.t, answer.Body.Close())
	back, err := answer.Location()
	require.NoError(i.t, err)
	require.Equal(i.t, openid.CallbackPath, back.Path)
	return back.RequestURI()
}

// address is where the browser's cookies are of.
func (b *browser) address() *url.URL {
	b.t.Helper()
	address, err := url.Parse(b.url)
	require.NoError(b.t, err)
	return address
}

// signInAt signs somebody in, and returns where he is sent, or the answer that refuses him.
func (i *identities) signInAt(b *browser, who mockoidc.User, next string) document {
	i.t.Helper()
	return b.get(i.callback(b, who, next))
}

func (i *identities) requireRefused(b *browser, d document, why string) {
	i.t.Helper()
	require.Equal(i.t, http.StatusForbidden, d.status, why)
	require.Len(i.t, d.all("p", "role", "alert"), 1, why)
	require.Equal(i.t, http.StatusSeeOther, b.get("/months").status, why)
}

// testOpenID is sign-in by OpenID Connect, at a provider within the test.
func testOpenID(t *testing.T, s *site) {
	t.Helper()
	t.Run("groups say who may what", func(t *testing.T) { testGroups(t, newIdentities(t, s)) })
	t.Run("an answer is to one attempt", func(t *testing.T) { testAttempts(t, newIdentities(t, s)) })
	t.Run("tokens that can't be believed", func(t *testing.T) { testTokens(t, newIdentities(t, s)) })
	t.Run("addresses that aren't verified", func(t *testing.T) { testAddresses(t, s) })
	t.Run("sessions", func(t *testing.T) { testSessions(t, newIdentities(t, s)) })
	t.Run("without keys, and with the provider away", func(t *testing.T) { testWithoutKeys(t, s) })
}

func testGroups(t *testing.T, i *identities) {
	t.Helper()
	page := i.browser().get("/sign-in?next=/months")
	i.browser().requirePage("/sign-in", page)
	require.Len(t, page.all("a", "href", "/sign-in/openid?next=%2fmonths"), 1)

	b := i.browser()
	require.Equal(t, "/months", i.signInAt(b, somebody("ada-1", "staff", "treasury"), "").header.Get("Location"))
	require.Equal(t, http.StatusOK, b.get("/months").status)
	require.Contains(t, b.get("/months").texts("form", "class", "who")[0], "ada-1 · finance")
	require.Equal(t, "/webhooks", i.signInAt(i.browser(), somebody("grace-1", "platform"), "/webhooks").header.Get("Location"))
	tenant := told{somebody("tim-1"), func(c jwt.MapClaims) { c["organization"] = i.free.String() }}
	b = i.browser()
	require.Equal(t, "/money", i.signInAt(b, tenant, "/money").header.Get("Location"))
	require.Equal(t, http.StatusOK, b.get("/money").status)

	// A person has one key, which nobody has the secret of, with the subject as its owner.
	i.signInAt(i.browser(), somebody("ada-1", "finance"), "")
	keys, err := i.store.ListKeys(t.Context(), nil)
	require.NoError(t, err)
	owned := 0
	for _, k := range keys {
		if k.Owner == "ada-1" {
			owned++
			require.Equal(t, "openid", k.Prefix)
			require.Equal(t, "ada-1 Doe", k.Name)
		}
	}
	require.Equal(t, 1, owned)
	entries, err := i.store.ListAudit(t.Context(), audit.Filter{Kind: "sign_in"}, uuid.Nil, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"ada-1", "finance", "127.0.0.1"}, []string{entries[0].Owner, entries[0].Role, entries[0].Address})

	for name, who := range map[string]mockoidc.User{
		"in no group":                  somebody("eve-1", "finance2", "Finance"),
		"without groups":               somebody("eve-1"),
		"in both":                      somebody("eve-1", "finance", "platform"),
		"groups as one text":           told{somebody("eve-1"), func(c jwt.MapClaims) { c["groups"] = "staff finance" }},
		"groups of another form":       told{somebody("eve-1"), func(c jwt.MapClaims) { c["groups"] = map[string]any{"finance": true} }},
		"of no organization":           told{somebody("eve-1"), func(c jwt.MapClaims) { c["organization"] = uuid.Nil.String() }},
		"of an organization elsewhere": told{somebody("eve-1"), func(c jwt.MapClaims) { c["organization"] = uuid.NewString() }},
		"nobody":                       somebody("", "finance"),
		"nobody that one sees":         somebody("\u200b", "finance"),
	} {
		b := i.browser()
		refused := i.signInAt(b, who, "/prices")
		i.requireRefused(b, refused, name)
		require.Len(t, refused.all("a", "href", "/sign-in/openid?next=%2fprices"), 1, "%s: who tries again goes on where he wanted", name)
	}
	for _, next := range []string{"//evil.example/", "/\\evil.example", "/\t/evil.example", "/\n/evil.example", "https://evil.example", "/\u00a0/evil.example", "/api/v1/usage", "x"} {
		require.Equal(t, "/months", i.signInAt(i.browser(), somebody("ada-1", "finance"), next).header.Get("Location"), "%q", next)
	}
}

// testAttempts holds that an answer counts once, in the browser that asked.
func testAttempts(t *testing.T, i *identities) {
	t.Helper()
	b, other := i.browser(), i.browser()
	first := i.callback(b, somebody("ada-2", "finance"), "")
	second := i.callback(other, somebody("eve-2", "finance"), "")
	i.requireRefused(b, b.get(second), "another's answer")
	i.requireRefused(b, b.get(first), "his own, after it")
	require.Equal(t, http.StatusSeeOther, other.get(second).status)
	again := i.browser()
	i.requireRefused(again, again.get(second), "an answer that was used, elsewhere")

	jar := i.browser()
	used := i.callback(jar, somebody("ada-2", "finance"), "")
	kept := jar.client.Jar.Cookies(jar.address())
	require.Equal(t, http.StatusSeeOther, jar.get(used).status)
	thief := i.browser()
	thief.client.Jar.SetCookies(thief.address(), kept)
	i.requireRefused(thief, thief.get(used), "the same answer with the same attempt: its code is used")

	for name, change := range map[string]func(url.Values){
		"no state":          func(q url.Values) { q.Del("state") },
		"another state":     func(q url.Values) { q.Set("state", "x") },
		"another code":      func(q url.Values) { q.Set("code", "x") },
		"another issuer":    func(q url.Values) { q.Set("iss", "https://evil.example") },
		"the provider's no": func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") },
	} {
		b := i.browser()
		path, query, _ := strings.Cut(i.callback(b, somebody("ada-2", "finance"), ""), "?")
		values, err := url.ParseQuery(query)
		require.NoError(t, err)
		change(values)
		i.requireRefused(b, b.get(path+"?"+values.Encode()), name)
	}
	none := i.browser()
	i.requireRefused(none, none.get(openid.CallbackPath+"?state=&code=x"), "no attempt")
}

// testTokens holds that an ID token counts where the provider has signed it, for this client, in answer to this attempt.
func testTokens(t *testing.T, i *identities) {
	t.Helper()
	for name, change := range map[string]func(jwt.MapClaims){
		"no nonce":         func(c jwt.MapClaims) { delete(c, "nonce") },
		"another nonce":    func(c jwt.MapClaims) { c["nonce"] = "x" },
		"another issuer":   func(c jwt.MapClaims) { c["iss"] = i.provider.Issuer() + "/" },
		"another client":   func(c jwt.MapClaims) { c["aud"] = "x" },
		"for two":          func(c jwt.MapClaims) { c["aud"] = []string{i.provider.ClientID, "x"} },
		"made for another": func(c jwt.MapClaims) { c["azp"] = "x" },
		"over":             func(c jwt.MapClaims) { c["exp"] = 1 },
	} {
		b := i.browser()
		i.requireRefused(b, i.signInAt(b, told{somebody("ada-3", "finance"), change}, ""), name)
	}
	part := func(token string, n int) string { return strings.Split(token, ".")[n] }
	head := func(algorithm string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"` + algorithm + `","typ":"JWT"}`))
	}
	signed := func(token, secret string) string {
		text := head("HS256") + "." + part(token, 1)
		signature, err := jwt.SigningMethodHS256.Sign(text, []byte(secret))
		require.NoError(t, err)
		return text + "." + base64.RawURLEncoding.EncodeToString(signature)
	}
	for name, forge := range map[string]func(string) string{
		"not signed":               func(token string) string { return head("none") + "." + part(token, 1) + "." },
		"not signed, in capitals":  func(token string) string { return head("NONE") + "." + part(token, 1) + "." },
		"signed by the secret":     func(token string) string { return signed(token, i.provider.ClientSecret) },
		"signed by the public key": func(token string) string { return signed(token, string(i.provider.Keypair.PublicKey.N.Bytes())) },
		"another's signature": func(token string) string {
			return part(token, 0) + "." + part(token, 1) + "." + base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{1}, 256))
		},
		"other claims, same signature": func(token string) string {
			return part(token, 0) + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"root"}`)) + "." + part(token, 2)
		},
		"no token": func(string) string { return "" },
	} {
		i.forge = forge
		b := i.browser()
		i.requireRefused(b, i.signInAt(b, somebody("ada-3", "finance"), ""), name)
	}
	i.forge = func(token string) string { return token }
	require.Equal(t, http.StatusSeeOther, i.signInAt(i.browser(), somebody("ada-3", "finance"), "").status)
}

// testAddresses holds that an e-mail address says who somebody is only where the provider has verified it.
func testAddresses(t *testing.T, s *site) {
	t.Helper()
	i := newIdentities(t, s, func(c *openid.Config, _ *web.Config) { c.OwnerClaim = openid.OwnerEmail })
	b := i.browser()
	require.Equal(t, http.StatusSeeOther, i.signInAt(b, somebody("Ada-4", "finance"), "").status)
	require.Contains(t, b.get("/months").texts("form", "class", "who")[0], "Ada-4@example.com · finance")
	for name, change := range map[string]func(jwt.MapClaims){
		"not verified":       func(c jwt.MapClaims) { c["email_verified"] = false },
		"not said":           func(c jwt.MapClaims) { delete(c, "email_verified") },
		"said as a text":     func(c jwt.MapClaims) { c["email_verified"] = "true" },
		"verified, and none": func(c jwt.MapClaims) { delete(c, "email") },
	} {
		b := i.browser()
		i.requireRefused(b, i.signInAt(b, told{somebody("eve-4", "finance"), change}, ""), name)
	}
}

// testSessions holds that a session begins anew, and ends: by signing out, with its key, in time.
func testSessions(t *testing.T, i *identities) {
	t.Helper()
	b := i.browser()
	b.client.Jar.SetCookies(b.address(), []*http.Cookie{{Name: "tollgate", Value: "chosen-by-somebody-else", Path: "/"}})
	i.signInAt(b, somebody("ada-5", "finance"), "")
	thief := i.browser()
	thief.client.Jar.SetCookies(thief.address(), []*http.Cookie{{Name: "tollgate", Value: "chosen-by-somebody-else", Path: "/"}})
	require.Equal(t, http.StatusOK, b.get("/months").status)
	require.Equal(t, http.StatusSeeOther, thief.get("/months").status)

	// Signing in again ends the one before; signing out ends it here, whatever a browser keeps.
	copied := func() *browser {
		other := i.browser()
		other.client.Jar.SetCookies(other.address(), b.client.Jar.Cookies(b.address()))
		require.Equal(t, http.StatusOK, other.get("/months").status)
		return other
	}
	before := copied()
	i.signInAt(b, somebody("ada-5", "finance"), "")
	require.Equal(t, http.StatusSeeOther, before.get("/months").status)
	after := copied()
	require.Equal(t, "/sign-in?done=out", b.post("/sign-out", b.get("/months").form("/sign-out")).header.Get("Location"))
	require.Equal(t, http.StatusSeeOther, after.get("/months").status)
	there := url.Values{"client_id": {i.provider.ClientID}, "post_logout_redirect_uri": {i.url + "/sign-in"}}
	require.Len(t, b.get("/sign-in?done=out").all("a", "href", i.provider.Issuer()+"/end?from=test&"+there.Encode()), 1, "the provider still knows who it is")

	// Who is taken out of a group stays until the end of his session, 12 hours at most, or of his key.
	owner, err := pgx.Connect(t.Context(), i.database.URL)
	require.NoError(t, err)
	defer func() { _ = owner.Close(t.Context()) }()
	i.signInAt(b, somebody("ada-5", "finance"), "")
	require.Equal(t, http.StatusOK, b.get("/months").status)
	_, err = owner.Exec(t.Context(), `UPDATE sign_ins SET created_at = created_at - interval '12 hours' WHERE key_id IN (SELECT id FROM api_keys WHERE owner = 'ada-5')`)
	require.NoError(t, err)
	require.Equal(t, http.StatusSeeOther, b.get("/months").status)
	i.requireRefused(b, i.signInAt(b, somebody("ada-5", "staff"), ""), "out of the group")

	i.signInAt(b, somebody("ada-5", "finance"), "")
	keys, err := i.store.ListKeys(t.Context(), nil)
	require.NoError(t, err)
	for _, k := range keys {
		if k.Owner == "ada-5" {
			require.NoError(t, i.store.RevokeKey(t.Context(), k.ID))
			i.api.ForgetKey(k.ID)
		}
	}
	require.Equal(t, http.StatusSeeOther, b.get("/months").status, "the key was revoked")
	i.signInAt(b, somebody("ada-5", "finance"), "")
	require.Equal(t, http.StatusOK, b.get("/months").status, "the provider still says that he is of finance")

	// Over a network, a cookie is for TLS, this host and no script.
	recorder := httptest.NewRecorder()
	i.pages.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "https://tollgate.example/sign-in/openid", nil))
	set := recorder.Header().Get("Set-Cookie")
	require.True(t, strings.HasPrefix(set, "__Host-tollgate-attempt="), set)
	require.Contains(t, set, "; Path=/; Max-Age=600; HttpOnly; Secure; SameSite=Lax")
	recorder = httptest.NewRecorder()
	request := httptest.NewRequest(http.MethodPost, "https://tollgate.example/sign-in", strings.NewReader("key="+i.keys["finance"]))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	i.pages.ServeHTTP(recorder, request)
	set = recorder.Header().Get("Set-Cookie")
	require.True(t, strings.HasPrefix(set, "__Host-tollgate="), set)
	require.True(t, strings.HasSuffix(set, "; Path=/; HttpOnly; Secure; SameSite=Lax"), set)
}

func testWithoutKeys(t *testing.T, s *site) {
	t.Helper()
	i := newIdentities(t, s, func(_ *openid.Config, c *web.Config) { c.NoKeys = true })
	require.Empty(t, i.browser().get("/sign-in").all("input", "name", "key"))
	require.Equal(t, http.StatusForbidden, i.browser().post("/sign-in", url.Values{"key": {i.keys["finance"]}}).status)
	require.Equal(t, http.StatusSeeOther, i.signInAt(i.browser(), somebody("ada-6", "finance"), "").status)

	away := newIdentities(t, s)
	require.NoError(t, away.provider.Shutdown())
	for range 2 {
		d := away.browser().get("/sign-in/openid?next=%2Fprices")
		require.Equal(t, "/prices", attribute(d.all("input", "name", "next")[0], "value"))
		require.Equal(t, http.StatusServiceUnavailable, d.status)
		require.Len(t, d.all("input", "name", "key"), 1, "a key still does")
	}
	require.Equal(t, http.StatusNotFound, s.browser().get("/sign-in/openid").status, "there is no provider")
}
