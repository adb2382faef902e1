"""Reports of a sweep: tables, pictures and a page, made from its files alone."""
