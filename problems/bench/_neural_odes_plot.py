"""Pictures of what `bench_neural_odes` trained."""


def plot_neural_odes(task, models, folder):
    return []
