//! Every row, contender after contender, in short samples: one round of `cargo run --release -p resile-peers`.
//!
//! Alone: `cargo bench -p resile-peers [-- FILTER]`.

use std::time::Duration;

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use resile_peers::{Run, rows};

fn peers(c: &mut Criterion) {
    for row in rows() {
        let mut group = c.benchmark_group(row.id);
        // Samples of one length each, so that their median says something.
        group.sampling_mode(SamplingMode::Flat);
        for contender in &row.contenders {
            let mut run: Option<Run> = None;
            group.bench_function(contender.name, |b| {
                b.iter_custom(|calls| run.get_or_insert_with(|| contender.start())(calls));
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(15).nresamples(1_000).without_plots()
        .warm_up_time(Duration::from_millis(60)).measurement_time(Duration::from_millis(240));
    targets = peers
}
criterion_main!(benches);
