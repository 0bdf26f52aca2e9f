package pgstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/riverline/tollgate/migrations"
	"github.com/riverline/tollgate/pgstore/pooler"
)

// Config is what a [Store] is made from.
type Config struct {
	// URL says where the database is and as whom to connect, as a URL or as
	// key=value pairs (libpq). Required. The role should be tollgate_api.
	URL string
	// ListenURL is where [Store.Listen] connects, in the same form. It must lead to the same database as
	// URL, by a session that stays. Empty: URL.
	ListenURL string
	// MaxConns is the most connections that the store holds, the one of
	// [Store.Listen] apart. Zero: 10.
	MaxConns int32
	// QueryTimeout bounds each call that reads or writes a few rows. Batches,
	// rollups, exports and partitions are bounded by the caller's context alone.
	// Zero: 10 s. Negative: none.
	QueryTimeout time.Duration
	// PlansTakeTwo keeps programs from publishing versions of plans as they start, where there are plans:
	// those come as proposals. False: what programs start with is published.
	PlansTakeTwo bool
	// Tracer sees every query. Nil: none.
	Tracer pgx.QueryTracer
	// Logger takes what no caller can be told. Nil: slog.Default.
	Logger *slog.Logger
}

const (
	defaultMaxConns       = 10
	defaultQueryTimeout   = 10 * time.Second
	defaultConnectTimeout = 5 * time.Second
)

// Store is the database. Its methods may be called by any number of goroutines;
// their errors are of type [*Error].
type Store struct {
	pool         *pgxpool.Pool
	listen       *pgx.ConnConfig
	queryTimeout time.Duration
	bulkPatience time.Duration
	plansTakeTwo bool
	log          *slog.Logger
	// describes says that sessions may not keep prepared statements: new connections have none.
	describes atomic.Bool
	// dropped is when connections were dropped last because the server was read-only, in nanoseconds of Unix time.
	dropped atomic.Int64
	turns   turns
}

// Open connects to the database and checks that it answers. Where a pooler is between, it does without
// prepared statements.
func Open(ctx context.Context, config Config) (*Store, error) {
	s, err := open(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	return s, nil
}

func open(ctx context.Context, config Config) (*Store, error) {
	if config.URL == "" {
		return nil, errors.New("Config.URL is required")
	}
	s := &Store{queryTimeout: config.QueryTimeout, bulkPatience: bulkPatience, plansTakeTwo: config.PlansTakeTwo, log: config.Logger}
	if s.queryTimeout == 0 {
		s.queryTimeout = defaultQueryTimeout
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	// pgx leaves the password out of its errors.
	pool, err := pgxpool.ParseConfig(config.URL)
	if err != nil {
		return nil, err
	}
	s.listen = pool.ConnConfig.Copy()
	if config.ListenURL != "" {
		if s.listen, err = pgx.ParseConfig(config.ListenURL); err != nil {
			return nil, fmt.Errorf("Config.ListenURL: %w", err)
		}
	}
	pool.MaxConns = config.MaxConns
	if pool.MaxConns == 0 {
		pool.MaxConns = defaultMaxConns
	}
	for _, connection := range []*pgx.ConnConfig{pool.ConnConfig, s.listen} {
		prepareConnection(connection)
	}
	// What listens asks little, and leaves nothing behind in a session.
	s.listen.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	pool.ConnConfig.Tracer = config.Tracer
	if err := s.chooseExecMode(ctx, config.URL, pool.ConnConfig); err != nil {
		return nil, err
	}
	pool.BeforeConnect = func(_ context.Context, connection *pgx.ConnConfig) error {
		if s.describes.Load() {
			connection.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		}
		return nil
	}
	pool.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		// Times are UTC, whatever the zone of the process is.
		codec := &pgtype.TimestamptzCodec{ScanLocation: time.UTC}
		conn.TypeMap().RegisterType(&pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: codec})
		return nil
	}
	if s.pool, err = pgxpool.NewWithConfig(ctx, pool); err != nil {
		return nil, err
	}
	if err := s.Ping(ctx); err != nil {
		s.pool.Close()
		return nil, pooler.Explain(err)
	}
	return s, nil
}

// prepareConnection sets what the URL leaves open.
func prepareConnection(connection *pgx.ConnConfig) {
	if connection.ConnectTimeout == 0 {
		connection.ConnectTimeout = defaultConnectTimeout
	}
	pooler.ToPrimary(connection)
	setDefault(connection.RuntimeParams, "application_name", migrations.ApplicationName)
	// Queries name UTC themselves; this is for whatever a session shows to people.
	setDefault(connection.RuntimeParams, "timezone", "UTC")
}

func setDefault(params map[string]string, name, value string) {
	if _, set := params[name]; !set {
		params[name] = value
	}
}

// Close ends all connections, after the calls that are under way.
func (s *Store) Close() { s.pool.Close() }

// Pool is what a store's connections are doing.
type Pool struct {
	// Used and Idle count the connections that are open, Most is how many there may be.
	Used, Idle, Most int64
	// Waits counts how often all were used, so that somebody had to wait for one.
	Waits int64
}

// Pool returns the figures as they are.
func (s *Store) Pool() Pool {
	stat := s.pool.Stat()
	return Pool{
		Used: int64(stat.AcquiredConns()), Idle: int64(stat.IdleConns()), Most: int64(stat.MaxConns()), Waits: stat.EmptyAcquireCount(),
	}
}

// Ping checks that the database answers.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return wrap(s.pool.Ping(ctx), "ping")
}

// bounded applies the query timeout.
func (s *Store) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.queryTimeout < 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.queryTimeout)
}

// ErrSchema says that the database lacks migrations that this program needs, ErrSchemaNewer that it has some
// with which this program doesn't work.
var (
	ErrSchema      = errors.New("the database's schema is too old")
	ErrSchemaNewer = errors.New("the database's schema is too new")
)

// CheckSchemaVersion reports [ErrSchema] where the database lacks migrations, and [ErrSchemaNewer] where it has newer
// ones that don't say that they work with this program.
func (s *Store) CheckSchemaVersion(ctx context.Context) error {
	_, err := s.checkSchemaVersion(ctx)
	return err
}

// checkSchemaVersion returns the database's last migration.
func (s *Store) checkSchemaVersion(ctx context.Context) (int64, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var version int64
	err := s.pool.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM public.goose_db_version WHERE is_applied`).Scan(&version)
	if err != nil && !hasCode(err, undefinedTable) {
		return 0, wrap(err, "check the schema")
	}
	needed := migrations.Latest()
	if version < needed {
		return version, wrap(fmt.Errorf("%w: the database is at migration %d, this program needs %d: run `tollgate migrate`",
			ErrSchema, version, needed), "check the schema")
	}
	if version == needed {
		return version, nil
	}
	var declared, worksWith int64
	if err := s.pool.QueryRow(ctx, `SELECT version, works_with FROM public.tollgate_schema()`).Scan(&declared, &worksWith); err != nil {
		return version, wrap(err, "check the schema")
	}
	if declared != version || worksWith > needed {
		return version, wrap(fmt.Errorf("%w: the database is at migration %d, this program knows %d and is too old for it: start a newer one",
			ErrSchemaNewer, version, needed), "check the schema")
	}
	return version, nil
}

// ErrUnbound says that row-level security doesn't bind the role of the connection.
var ErrUnbound = errors.New("row-level security does not bind this connection")

// CheckSchema is [Store.CheckSchemaVersion], and reports [ErrUnbound] of a connection that would see everybody's rows
// whatever its scope is: a superuser's, the owner's, or one to a database whose tables were left without row-level
// security. It warns, in the log, of a database that is newer than the program and works with it.
func (s *Store) CheckSchema(ctx context.Context) error {
	version, err := s.checkSchemaVersion(ctx)
	if err != nil {
		return err
	}
	if needed := migrations.Latest(); version > needed {
		s.log.Warn("The database is newer than this program", "migration", version, "known", needed)
	}
	return wrap(s.checkBound(ctx), "check the role")
}

// checkBound asks Postgres itself of each table with rows of an organization: how a role is freed of row-level security
// has many ways.
func (s *Store) checkBound(ctx context.Context) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var role string
	var open []string
	err := s.pool.QueryRow(ctx, `
		SELECT current_user, coalesce(array_agg(c.relname::text ORDER BY c.relname), '{}')
		FROM pg_class c
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT row_security_active(c.oid)
			AND (c.relname = 'organizations'
				OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'organization_id' AND NOT a.attisdropped))`).
		Scan(&role, &open)
	if err != nil {
		return err
	}
	if len(open) > 0 {
		return fmt.Errorf("%w: role %s sees all rows of %d tables (%s, …): connect as %s, the role that migrations make",
			ErrUnbound, role, len(open), open[0], migrations.APIRole)
	}
	return nil
}
