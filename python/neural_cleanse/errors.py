"""What can go wrong."""


class Error(Exception):
    """The base of all errors of this package."""


class ModelError(Error, ValueError):
    """The model cannot be read, exported or differentiated, or does not go with the samples."""


class DataError(Error, ValueError):
    """The samples cannot be used."""


class ParameterError(Error, ValueError):
    """A parameter is unknown or out of its range."""


class EngineError(Error, RuntimeError):
    """The inference engine cannot be loaded, or failed."""


class FileError(Error, OSError):
    """A file cannot be read or written."""


class RepairRefused(Error, RuntimeError):
    """The repair would cost more clean accuracy than is allowed."""
