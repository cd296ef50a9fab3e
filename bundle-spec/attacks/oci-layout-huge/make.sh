# Run in a copy of bundle/: makes what cannot be kept in a repository.
{ head -c 1048576 /dev/zero | tr '\000' ' '; } > 'oci-layout'
