"""Where rows are read from: tables, folders, archives and hub sets, by `datasets`."""
