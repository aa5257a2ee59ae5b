"""Growth of a perturbation during a window of the training: twins of finite size, the exact derivative, curvature."""
