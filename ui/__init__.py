"""The page: Gradio only. It knows how a value looks and what a click means, and asks the app for everything else."""
