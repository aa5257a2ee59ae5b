"""The warnings and errors of the package, so that a program can filter and catch them."""


class ProbeWarning(UserWarning):
    """Every warning that this package issues is of this class.

    Examples
    --------
    >>> import warnings
    >>> from probe.errors import ProbeWarning
    >>> warnings.simplefilter("ignore", ProbeWarning)  # silence probe, and nothing else
    """


class DuplicateNameError(ValueError):
    """Two probes of one set make variables of the same name.

    Examples
    --------
    >>> from probe.errors import DuplicateNameError
    >>> issubclass(DuplicateNameError, ValueError)
    True
    """
