"""The library for programs: routes that clients of OpenAI, Anthropic and MCP know, each behind a key."""

from ui.api.server import Api
