"""The manifests before an API server of Kubernetes: `make test-kubernetes`."""
