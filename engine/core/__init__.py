"""What every other room stands on: errors, quantization, rotary positions, log-sum-exp, sampling, atomic writes."""
