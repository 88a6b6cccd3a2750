"""What DocPod is measured with; not shipped: speed, fidelity, evidence, and the app as a whole."""
