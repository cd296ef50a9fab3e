# Run in a copy of bundle/: makes what cannot be kept in a repository.
truncate -s 1G signatures/3ef70f31f9ded30233cdce70c52008fc.sig
