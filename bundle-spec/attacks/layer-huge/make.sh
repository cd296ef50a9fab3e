# Run in a copy of bundle/: makes what cannot be kept in a repository.
truncate -s 1T blobs/sha256/84952b14af8d502d9b7d6f1ea988faeaa150f9c53a2040c943bcc0b24232d1b6
