"""What transformers says while it loads a checkpoint, for the tests that load what shardfold wrote."""

import logging
import re
import warnings
from contextlib import contextmanager

import transformers


class Messages(logging.Handler):
    """Keeps the text of every record."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


@contextmanager
def recording(folder):
    """Gives a list that holds, at the end, all that transformers warned of, without paths and colours."""
    transformers.logging.warning_once.cache_clear()  # or the second folder would be spared what the first was told
    logger, handler, messages = logging.getLogger("transformers"), Messages(), []
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield messages
    finally:
        logger.removeHandler(handler)
    texts = handler.texts + [str(warning.message) for warning in caught]
    messages += [re.sub(r"\x1b\[[\d;]*m", "", text).replace(str(folder), "DIR").strip() for text in texts]
