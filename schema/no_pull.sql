/* no_pull.sql: what the checkpoint says where no pull is under way; goes into an UPDATE. */
pull_mode = NULL, pull_types = NULL, pull_started_at = NULL, pull_since = NULL, pull_next_url = NULL,
pull_pages = NULL, pull_walk = NULL, pull_renamed = NULL, pull_link_failures = NULL
