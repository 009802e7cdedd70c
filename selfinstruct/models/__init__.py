"""Models behind one client: embedded, at any endpoint of the OpenAI protocol, live or in batch jobs, with every answer stored once."""

from .client import announce
from .connection import connect
from .endpoint import is_embedded
