"""Records to turns and texts, by the settings of a data source."""
