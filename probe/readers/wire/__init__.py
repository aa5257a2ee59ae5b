"""Binary formats: protocol buffers, TFRecord frames, TensorBoard events."""
