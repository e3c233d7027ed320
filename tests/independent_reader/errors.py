"""The kinds of error of FORMAT.md section 7; a bundle that is refused is always `UnsupportedError`."""

from __future__ import annotations


class ReaderError(Exception):
    """What every refusal derives from; the class's name is the kind."""


class TruncatedError(ReaderError):
    """More input may help."""


class CorruptError(ReaderError):
    """Damaged, or never valid."""


class UnsupportedError(ReaderError):
    """Another format, version, feature, or a bundle that breaks its rules."""


class LimitError(ReaderError):
    """Beyond what this reader is willing to hold."""


class WrongBundleError(ReaderError):
    """Another bundle's file."""


def require(condition: object, message: str) -> None:
    """For bundles: refuse unless `condition`."""
    if not condition:
        raise UnsupportedError(message)


def intact(condition: object, message: str) -> None:
    """For files: corrupt unless `condition`."""
    if not condition:
        raise CorruptError(message)
