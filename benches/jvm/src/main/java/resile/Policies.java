package resile;

import io.github.resilience4j.bulkhead.Bulkhead;
import io.github.resilience4j.bulkhead.BulkheadConfig;
import io.github.resilience4j.bulkhead.BulkheadFullException;
import io.github.resilience4j.circuitbreaker.CallNotPermittedException;
import io.github.resilience4j.circuitbreaker.CircuitBreaker;
import io.github.resilience4j.circuitbreaker.CircuitBreakerConfig;
import io.github.resilience4j.circuitbreaker.CircuitBreakerConfig.SlidingWindowType;
import io.github.resilience4j.ratelimiter.RateLimiter;
import io.github.resilience4j.ratelimiter.RateLimiterConfig;
import io.github.resilience4j.ratelimiter.RequestNotPermitted;
import io.github.resilience4j.retry.Retry;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Threads;
import org.openjdk.jmh.infra.Blackhole;

/**
 * What each policy adds to a call: permitted and rejected, on one thread and on two that share one breaker.
 *
 * <p>Every figure includes the bare call. A rejection that should be a permit, or the other way round, ends the run.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
public class Policies {
    private static final Duration HOUR = Duration.ofHours(1);

    /** The breaker that two threads share. */
    @State(Scope.Benchmark)
    public static class Shared {
        final CircuitBreaker breaker = CircuitBreaker.ofDefaults("bench");
    }

    /** The protected call of a thread with the shared breaker around it. */
    @State(Scope.Thread)
    public static class Sharing {
        Supplier<Object> permitted;

        @Setup
        public void decorate(Shared shared, Blackhole blackhole) {
            permitted = CircuitBreaker.decorateSupplier(shared.breaker, work(blackhole));
        }
    }

    private CircuitBreaker openBreaker;
    private RateLimiter emptyLimiter;
    private Bulkhead fullBulkhead;

    private Supplier<Object> bare;
    private Supplier<Object> breakerPermitted;
    private Supplier<Object> breakerPermittedTimeWindow;
    private Supplier<Object> breakerRejected;
    private Supplier<Object> breakerRejectedNoStackTrace;
    private Supplier<Object> retryFirstAttempt;
    private Supplier<Object> limiterPermitted;
    private Supplier<Object> limiterRejected;
    private Supplier<Object> bulkheadPermitted;
    private Supplier<Object> bulkheadRejected;
    private Supplier<Object> fourLayers;

    @Setup
    public void decorate(Blackhole blackhole) {
        bare = work(blackhole);

        breakerPermitted = CircuitBreaker.decorateSupplier(CircuitBreaker.ofDefaults("bench"), bare);
        var timed = CircuitBreakerConfig.custom().slidingWindowType(SlidingWindowType.TIME_BASED);
        var minute = CircuitBreaker.of("bench", timed.slidingWindowSize(60).build());
        breakerPermittedTimeWindow = CircuitBreaker.decorateSupplier(minute, bare);

        var forAnHour = CircuitBreakerConfig.custom().waitDurationInOpenState(HOUR);
        openBreaker = CircuitBreaker.of("bench", forAnHour.build());
        openBreaker.transitionToOpenState();
        breakerRejected = CircuitBreaker.decorateSupplier(openBreaker, bare);
        var open = CircuitBreaker.of("bench", forAnHour.writableStackTraceEnabled(false).build());
        open.transitionToOpenState();
        breakerRejectedNoStackTrace = CircuitBreaker.decorateSupplier(open, bare);

        retryFirstAttempt = Retry.decorateSupplier(Retry.ofDefaults("bench"), bare);

        limiterPermitted = RateLimiter.decorateSupplier(neverEmpty(), bare);
        var hourly = RateLimiterConfig.custom().limitForPeriod(1).limitRefreshPeriod(HOUR);
        emptyLimiter = RateLimiter.of("bench", hourly.timeoutDuration(Duration.ZERO).build());
        emptyLimiter.acquirePermission();
        limiterRejected = RateLimiter.decorateSupplier(emptyLimiter, bare);

        bulkheadPermitted = Bulkhead.decorateSupplier(Bulkhead.ofDefaults("bench"), bare);
        fullBulkhead = Bulkhead.of("bench", BulkheadConfig.custom().maxConcurrentCalls(1).build());
        fullBulkhead.acquirePermission();
        bulkheadRejected = Bulkhead.decorateSupplier(fullBulkhead, bare);

        var inBulkhead = Bulkhead.decorateSupplier(Bulkhead.ofDefaults("bench"), bare);
        var inLimiter = RateLimiter.decorateSupplier(neverEmpty(), inBulkhead);
        var inBreaker = CircuitBreaker.decorateSupplier(CircuitBreaker.ofDefaults("bench"), inLimiter);
        fourLayers = Retry.decorateSupplier(Retry.ofDefaults("bench"), inBreaker);
    }

    /** The call that is protected: it uses its input, so that the compiler leaves nothing out. */
    private static Supplier<Object> work(Blackhole blackhole) {
        var input = new Object();
        return () -> {
            blackhole.consume(input);
            return input;
        };
    }

    private static RateLimiter neverEmpty() {
        var config = RateLimiterConfig.custom().limitForPeriod(Integer.MAX_VALUE);
        return RateLimiter.of("bench", config.limitRefreshPeriod(Duration.ofSeconds(1)).build());
    }

    private static AssertionError admitted() {
        return new AssertionError("a call that must be rejected was admitted");
    }

    @Benchmark
    public Object bare() {
        return bare.get();
    }

    @Benchmark
    public Object breakerPermitted() {
        return breakerPermitted.get();
    }

    @Benchmark
    public Object breakerPermittedTimeWindow() {
        return breakerPermittedTimeWindow.get();
    }

    @Benchmark
    @Threads(2)
    public Object breakerTwoThreads(Sharing sharing) {
        return sharing.permitted.get();
    }

    @Benchmark
    public Object breakerRejected() {
        try {
            breakerRejected.get();
        } catch (CallNotPermittedException rejected) {
            return rejected;
        }
        throw admitted();
    }

    @Benchmark
    public Object breakerRejectedNoStackTrace() {
        try {
            breakerRejectedNoStackTrace.get();
        } catch (CallNotPermittedException rejected) {
            return rejected;
        }
        throw admitted();
    }

    @Benchmark
    public boolean breakerRejectedNoException() {
        if (openBreaker.tryAcquirePermission()) {
            throw admitted();
        }
        return false;
    }

    @Benchmark
    public Object retryFirstAttempt() {
        return retryFirstAttempt.get();
    }

    @Benchmark
    public Object limiterPermitted() {
        return limiterPermitted.get();
    }

    @Benchmark
    public Object limiterRejected() {
        try {
            limiterRejected.get();
        } catch (RequestNotPermitted rejected) {
            return rejected;
        }
        throw admitted();
    }

    @Benchmark
    public boolean limiterRejectedNoException() {
        if (emptyLimiter.acquirePermission()) {
            throw admitted();
        }
        return false;
    }

    @Benchmark
    public Object bulkheadPermitted() {
        return bulkheadPermitted.get();
    }

    @Benchmark
    public Object bulkheadRejected() {
        try {
            bulkheadRejected.get();
        } catch (BulkheadFullException rejected) {
            return rejected;
        }
        throw admitted();
    }

    @Benchmark
    public boolean bulkheadRejectedNoException() {
        if (fullBulkhead.tryAcquirePermission()) {
            throw admitted();
        }
        return false;
    }

    @Benchmark
    public Object fourLayers() {
        return fourLayers.get();
    }
}
