"""What a comparison found, for people and programs: tables, remarks, the verdict, CSV and the figure."""
