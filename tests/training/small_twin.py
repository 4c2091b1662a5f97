"""Overrides that make a run of seconds: the analytic twin of diamond, few frames, small networks."""

SMALL = [
    "data=diamond_twin",
    "data.n_frames=28",
    "data.validation_size=4",
    "data.test_size=4",
    "split_seed=1",
    "logger=csv",
    "trainer.progress=false",
]
QUICK = [*SMALL, "model=painn", "model.n_hidden=8", "model.cutoff=2.8", "trainer.max_epochs=4"]
