"""A fleet simulated through a day, by what was measured of one pod and the autoscaler of `k8s/components`."""
