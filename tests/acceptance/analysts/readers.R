# Reads a live warehouse with RSQLite and its extended types, and holds each column against SQLite's own count.

suppressPackageStartupMessages(library(RSQLite))
arguments <- commandArgs(trailingOnly = TRUE)
warehouse <- dbConnect(SQLite(), arguments[1], flags = SQLITE_RO, extended_types = TRUE)
plain <- dbConnect(SQLite(), arguments[1], flags = SQLITE_RO)
tables <- dbGetQuery(plain, "SELECT name FROM analyst_table ORDER BY name")$name
stopifnot(length(tables) > 1)
for (table in tables) {
  rows <- suppressWarnings(dbGetQuery(warehouse, sprintf('SELECT * FROM "%s"', table)))
  declared <- dbGetQuery(plain, sprintf("SELECT name, type FROM pragma_table_info('%s')", table))
  stopifnot(nrow(rows) == dbGetQuery(plain, sprintf('SELECT count(*) AS n FROM "%s"', table))$n)
  for (at in seq_len(nrow(declared))) {
    column <- declared$name[at]
    values <- rows[[column]]
    there <- dbGetQuery(plain, sprintf('SELECT count("%s") AS n FROM "%s"', column, table))$n
    # A value that its type cannot hold would be NA.
    if (sum(!is.na(values)) != there) {
      stop(sprintf("%s.%s: %d values, %d read", table, column, there, sum(!is.na(values))))
    }
    wanted <- switch(declared$type[at], DATE = "Date", DATETIME = "POSIXct", REAL = "numeric", NULL)
    if (there > 0 && !is.null(wanted) && !inherits(values, wanted) && !(wanted == "numeric" && is.numeric(values))) {
      stop(sprintf("%s.%s is declared %s and read as %s", table, column, declared$type[at], class(values)[1]))
    }
  }
}
for (file in list.files(arguments[2], pattern = "[.]sql$", full.names = TRUE)) {
  query <- paste(readLines(file, warn = FALSE), collapse = "\n")
  invisible(dbGetQuery(plain, query))
}
cat(length(tables), "tables, RSQLite", as.character(packageVersion("RSQLite")), "\n")
