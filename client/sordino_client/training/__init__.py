"""The DP-SGD engine of a site: sampling, clipping, noise, and the steps that join them."""
