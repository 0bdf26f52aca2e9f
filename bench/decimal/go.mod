module github.com/riverline/tollgate/bench/decimal

go 1.26.0

require (
	github.com/cockroachdb/apd/v3 v3.2.3
	github.com/shopspring/decimal v1.6.0
)
