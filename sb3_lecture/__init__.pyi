"""Every public name of the package and the file it lives in; the lazy loader reads this table at run time."""

