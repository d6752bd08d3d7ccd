"""``fedloom evaluate``: a base model and adapters on public benchmarks."""
