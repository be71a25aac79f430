// What each policy adds to a call in failsafe-go and gobreaker: see README.md. Every figure includes the bare call.
package bench

import (
	"errors"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/sony/gobreaker/v2"
)

var input uint64 = 1

// The call that is protected.
//
//go:noinline
func work() (uint64, error) {
	return input, nil
}

type call = func(func() (uint64, error)) (uint64, error)

// Measures a call that must be permitted.
func permitted(b *testing.B, call call) {
	b.Helper()
	for b.Loop() {
		if output, err := call(work); err != nil || output != input {
			b.Fatal(output, err)
		}
	}
}

// Measures a call that must be rejected for this reason.
func rejected(b *testing.B, reason error, call call) {
	b.Helper()
	if _, err := call(work); !errors.Is(err, reason) {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := call(work); err == nil {
			b.Fatal("admitted")
		}
	}
}

// Measures a call that must be permitted, made by two threads at once. The time is that of all calls divided by their
// number.
func twoThreads(b *testing.B, call call) {
	b.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if output, err := call(work); err != nil || output != input {
				b.Error(output, err)
				return
			}
		}
	})
}

func around(policies ...failsafe.Policy[uint64]) call {
	return failsafe.With(policies...).Get
}

// A window of the last 100 calls, as Resilience4j and resile have by default.
func countWindow() circuitbreaker.CircuitBreaker[uint64] {
	return circuitbreaker.NewBuilder[uint64]().WithFailureThresholdRatio(50, 100).Build()
}

func neverEmpty() ratelimiter.RateLimiter[uint64] {
	return ratelimiter.NewBursty[uint64](math.MaxInt32, time.Second)
}

func BenchmarkBare(b *testing.B) {
	permitted(b, func(work func() (uint64, error)) (uint64, error) { return work() })
}

func BenchmarkFailsafeBreakerPermitted(b *testing.B) {
	permitted(b, around(countWindow()))
}

func BenchmarkFailsafeBreakerPermittedTimeWindow(b *testing.B) {
	minute := circuitbreaker.NewBuilder[uint64]().WithFailureRateThreshold(0.5, 100, time.Minute)
	permitted(b, around(minute.Build()))
}

func BenchmarkFailsafeBreakerTwoThreads(b *testing.B) {
	twoThreads(b, around(countWindow()))
}

func BenchmarkFailsafeBreakerRejected(b *testing.B) {
	open := circuitbreaker.NewBuilder[uint64]().WithDelay(time.Hour).Build()
	open.Open()
	rejected(b, circuitbreaker.ErrOpen, around(open))
}

func BenchmarkFailsafeRetryFirstAttempt(b *testing.B) {
	permitted(b, around(retrypolicy.NewWithDefaults[uint64]()))
}

func BenchmarkFailsafeLimiterPermitted(b *testing.B) {
	permitted(b, around(neverEmpty()))
}

func BenchmarkFailsafeLimiterRejected(b *testing.B) {
	empty := ratelimiter.NewBursty[uint64](1, time.Hour)
	empty.TryAcquirePermit()
	rejected(b, ratelimiter.ErrExceeded, around(empty))
}

func BenchmarkFailsafeBulkheadPermitted(b *testing.B) {
	permitted(b, around(bulkhead.New[uint64](25)))
}

func BenchmarkFailsafeBulkheadRejected(b *testing.B) {
	full := bulkhead.New[uint64](1)
	full.TryAcquirePermit()
	rejected(b, bulkhead.ErrFull, around(full))
}

func BenchmarkFailsafeFourLayers(b *testing.B) {
	retry := retrypolicy.NewWithDefaults[uint64]()
	permitted(b, around(retry, countWindow(), neverEmpty(), bulkhead.New[uint64](25)))
}

func BenchmarkGobreakerBreakerPermitted(b *testing.B) {
	permitted(b, gobreaker.NewCircuitBreaker[uint64](gobreaker.Settings{}).Execute)
}

func BenchmarkGobreakerBreakerPermittedTimeWindow(b *testing.B) {
	minute := gobreaker.Settings{Interval: time.Minute, BucketPeriod: time.Second}
	permitted(b, gobreaker.NewCircuitBreaker[uint64](minute).Execute)
}

func BenchmarkGobreakerBreakerTwoThreads(b *testing.B) {
	twoThreads(b, gobreaker.NewCircuitBreaker[uint64](gobreaker.Settings{}).Execute)
}

func BenchmarkGobreakerBreakerRejected(b *testing.B) {
	atOnce := func(gobreaker.Counts) bool { return true }
	open := gobreaker.NewCircuitBreaker[uint64](gobreaker.Settings{Timeout: time.Hour, ReadyToTrip: atOnce})
	open.Execute(func() (uint64, error) { return 0, errors.New("down") })
	rejected(b, gobreaker.ErrOpenState, open.Execute)
}
