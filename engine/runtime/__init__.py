"""Reading and answering: contexts, the runner, generation, and the CUDA-graph decode runner."""
