"""Training towards the cut: penalties that push channels to zero, or kernels to an isometry, while a network trains."""
