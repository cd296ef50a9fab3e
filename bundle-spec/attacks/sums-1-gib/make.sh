# Run in a copy of bundle/: makes what cannot be kept in a repository.
truncate -s 1G SHA256SUMS
