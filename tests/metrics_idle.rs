//! Series that nobody tells of any more, in an exporter that forgets them. Alone in its process, so that no other test
//! tells of anything.

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_util::MetricKindMask;
use resile::{CircuitBreaker, metrics};

#[test]
fn an_exporter_with_an_idle_timeout_forgets_what_is_gone_and_nothing_else() {
    let builder = PrometheusBuilder::new().idle_timeout(MetricKindMask::ALL, Some(Duration::from_nanos(1)));
    let prometheus = builder.install_recorder().unwrap();
    let scrape = || {
        metrics::refresh();
        prometheus.render()
    };
    let (gone, stays) = (CircuitBreaker::with_defaults("gone"), CircuitBreaker::with_defaults("stays"));
    metrics::bind(&gone);
    metrics::bind(&stays);
    // Nothing changes, and still nothing is idle: every scrape tells of everything.
    for _ in 0..3 {
        let text = scrape();
        assert!(text.contains("name=\"gone\"") && text.contains("name=\"stays\""), "{text}");
    }
    metrics::unbind(&gone);
    assert!(scrape().contains("resilience4j_circuitbreaker_state{name=\"gone\",state=\"closed\"} 0\n"));
    let later = scrape();
    assert!(!later.contains("name=\"gone\"") && later.contains("name=\"stays\""), "{later}");

    metrics::bind(&gone);
    gone.try_acquire().unwrap().success();
    let again = "resilience4j_circuitbreaker_calls_seconds_count{name=\"gone\",kind=\"successful\"} 1\n";
    assert!(scrape().contains(again) && scrape().contains(again));
    assert!(scrape().contains("# HELP resilience4j_circuitbreaker_state 1 for the state that the breaker is in"));
}
