"""What commands print with: the console, bars and tables."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

console = Console()


def progress_bar() -> Progress:
    """A bar with the share done, the time and the time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def wide_table(name: str, *columns: str, title: str) -> Table:
    """A table of which the first column is never cut or broken: its entries are there to be copied."""
    table = Table(title=title)
    table.add_column(name, no_wrap=True, overflow="ignore", min_width=0)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
