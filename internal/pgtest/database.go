package pgtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/migrations"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/plans"
)

const (
	// apiPassword is the password of the role migrations.APIRole on every test server.
	apiPassword = "tollgate-api-in-tests"
	// templateLock is the advisory lock under which templates are made, by all the
	// test binaries that use a server at the same time.
	templateLock = 7_412_380_251
)

// Database is a database that one test has for itself.
type Database struct {
	// Name is the database's name.
	Name string
	// URL connects as a superuser, who owns everything. Row-level security does not
	// bind it.
	URL string
	// APIURL connects as the role tollgate_api, as the processes of Tollgate do. In an
	// empty database the role may not exist yet.
	APIURL string
}

// patience bounds what a test's own store waits for: a machine that does other things meanwhile takes its time, and a test that
// hangs ends by its own limit.
const patience = time.Minute

// Open opens a store for a test, as the role tollgate_api unless config says otherwise, and closes it at the end of the test.
// It waits for a minute where a process of Tollgate would give up sooner.
func (d *Database) Open(t testing.TB, config pgstore.Config) *pgstore.Store {
	t.Helper()
	if config.URL == "" {
		config.URL = d.APIURL
	}
	if config.QueryTimeout == 0 {
		config.QueryTimeout = patience
	}
	parsed, err := url.Parse(config.URL)
	require.NoError(t, err)
	values := parsed.Query()
	values.Set("connect_timeout", strconv.Itoa(int(patience/time.Second)))
	// Postgres takes a plus sign as it is.
	parsed.RawQuery = strings.ReplaceAll(values.Encode(), "+", "%20")
	config.URL = parsed.String()
	store, err := pgstore.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(store.Close)
	return store
}

// cluster makes databases on one server.
type cluster struct {
	// admin is a superuser's URL of a database that is always there.
	admin url.URL
	// disposable says that the server ends with the test, so that its databases need
	// not be dropped one by one.
	disposable bool

	mu       sync.Mutex
	template string
}

// newCluster takes a superuser's URL.
func newCluster(admin string) (*cluster, error) {
	parsed, err := url.Parse(admin)
	if err != nil {
		return nil, errors.New("the database URL must have the form postgres://user:password@host:port/database")
	}
	if parsed.Scheme != "postgres" && parsed.Scheme != "postgresql" || parsed.Host == "" {
		return nil, errors.New("the database URL must have the form postgres://user:password@host:port/database")
	}
	return &cluster{admin: *parsed}, nil
}

// newDatabase makes a database, and drops it at the end of the test.
func (c *cluster) newDatabase(t testing.TB, migrated bool) *Database {
	t.Helper()
	template := "template0"
	if migrated {
		var err error
		template, err = c.migratedTemplate(t.Context())
		require.NoError(t, err)
	}
	name := "tollgate_test_" + strings.ToLower(rand.Text()[:16])
	// To copy the files takes half as long as to log each of their pages.
	require.NoError(t, c.execute(t.Context(), fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s STRATEGY FILE_COPY", quoted(name), quoted(template))))
	if !c.disposable {
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), stopWait)
			defer cancel()
			require.NoError(t, c.execute(ctx, fmt.Sprintf("DROP DATABASE %s WITH (FORCE)", quoted(name))))
		})
	}
	return c.database(name)
}

// database returns the URLs of a database.
func (c *cluster) database(name string) *Database {
	owner, api := c.admin, c.admin
	owner.Path = "/" + name
	api.Path = "/" + name
	api.User = url.UserPassword(migrations.APIRole, apiPassword)
	return &Database{Name: name, URL: owner.String(), APIURL: api.String()}
}

// migratedTemplate returns the name of the migrated database of which tests get copies.
// The server has one for each state of the migrations, whoever makes it first.
func (c *cluster) migratedTemplate(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.template != "" {
		return c.template, nil
	}
	name, err := templateName(migrations.FS, time.Now())
	if err != nil {
		return "", err
	}
	if err := c.makeTemplate(ctx, name); err != nil {
		return "", fmt.Errorf("make the template database %s: %w", name, err)
	}
	c.template = name
	return name, nil
}

// makeTemplate makes and migrates the template unless it is there.
func (c *cluster) makeTemplate(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, c.admin.String())
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	// The end of the session gives the lock back.
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", templateLock); err != nil {
		return fmt.Errorf("take the lock: %w", err)
	}
	var complete bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1 AND datistemplate)", name).Scan(&complete); err != nil {
		return fmt.Errorf("look for it: %w", err)
	}
	if complete {
		return nil
	}
	// One that isn't marked as a template was left half-made by a killed run.
	for _, statement := range []string{
		fmt.Sprintf("DROP DATABASE IF EXISTS %s WITH (FORCE)", quoted(name)),
		fmt.Sprintf("CREATE DATABASE %s TEMPLATE template0", quoted(name)),
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("create it: %w", err)
		}
	}
	template := c.database(name)
	if err := migrations.Up(ctx, template.URL); err != nil {
		return err
	}
	if err := migrations.EnableLogin(ctx, template.URL, apiPassword); err != nil {
		return err
	}
	if err := publishDefault(ctx, template.APIURL); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, fmt.Sprintf("ALTER DATABASE %s IS_TEMPLATE true", quoted(name))); err != nil {
		return fmt.Errorf("mark it as a template: %w", err)
	}
	return nil
}

// publishDefault publishes the built-in catalog, as an API does at its first start.
func publishDefault(ctx context.Context, database string) error {
	store, err := pgstore.Open(ctx, pgstore.Config{URL: database, MaxConns: 2})
	if err != nil {
		return err
	}
	defer store.Close()
	_, err = store.PublishDefaultCatalog(ctx)
	return err
}

// execute runs one statement on a connection of its own.
func (c *cluster) execute(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, c.admin.String())
	if err != nil {
		return fmt.Errorf("connect to the test server: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// templateName names the template of the migrations' present text and of the built-in
// catalog. The month is part of it, as migrations make partitions for the months that are
// to come.
func templateName(files fs.FS, now time.Time) (string, error) {
	hash := sha256.New()
	if err := json.NewEncoder(hash).Encode(plans.Default()); err != nil {
		return "", fmt.Errorf("read the built-in catalog: %w", err)
	}
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(hash, "%s\x00%d\x00%s", path, len(text), text)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read the migrations: %w", err)
	}
	return fmt.Sprintf("tollgate_template_%s_%s", now.UTC().Format("200601"), hex.EncodeToString(hash.Sum(nil)[:8])), nil
}

// quoted returns a name as an SQL identifier.
func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }
