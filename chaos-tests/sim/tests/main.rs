//! A seed is a run: the same whenever it is run again, and without a violation.

use pipes_sim::world;

#[test]
fn a_seed_gives_the_same_trace_whenever_it_is_run() {
    for seed in [1, 2, 3] {
        let first = world::run(seed, None, false);
        let second = world::run(seed, None, false);
        assert_eq!(first.sum, second.sum, "seed {seed}");
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}

#[test]
fn seeds_differ() {
    assert_ne!(world::run(4, None, false).sum, world::run(5, None, false).sum);
}
