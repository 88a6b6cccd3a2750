"""Derived figures: ratios and totals that an annual report seldom states, and the lines behind them."""

import re
from typing import NamedTuple

_INCOME, _BALANCE = "consolidated statements of income", "consolidated balance sheets"
_CASH = "statements of cash flows"
_COST = f"{_INCOME} cost of sales"
_SALES, _OPERATING, _NET = f"{_INCOME} net sales revenues", f"{_INCOME} operating income", f"{_INCOME} net income"
_DEPRECIATION = f"{_CASH} depreciation and amortization"
_ASSETS, _EQUITY = f"{_BALANCE} total assets", f"{_BALANCE} total shareholders' equity"
_DEBT, _CURRENT = f"{_BALANCE} long-term debt", f"{_BALANCE} total current assets, total current liabilities"
_LINES: tuple[tuple[str, str], ...] = (
    (r"working capital|current ratio|quick ratio|acid test|liquidity ratio", _CURRENT),
    (r"returns? on (?:total |average )?assets?|\broa\b", f"{_NET}; {_ASSETS}"),
    (r"returns? on (?:shareholders['’]? |average )?equity|\broe\b", f"{_NET}; {_EQUITY}"),
    (
        r"returns? on (?:capital employed|invested capital)|\bro(?:ce|ic)\b",
        f"{_OPERATING}; {_ASSETS}, current liabilities",
    ),
    (r"gross (?:profit )?margins?|gross profit", f"{_SALES}, cost of sales, gross profit"),
    (r"operating (?:profit )?margins?|\bebit\b(?! ?da)", f"{_SALES}, operating income"),
    (r"(?:net )?profit margins?|net margins?", f"{_SALES}, net income"),
    (r"\bebitda\b|before depreciation", f"{_OPERATING}; {_DEPRECIATION}"),
    (r"interest coverage|times interest earned", f"{_OPERATING}, interest expense"),
    (r"interest (?:expense )?to (?:average )?(?:total |long[- ]term )*debt", f"{_INCOME} interest expense; {_DEBT}"),
    (r"effective tax|tax rate", f"{_INCOME} income before income taxes, provision for income taxes"),
    (r"debt[- ]to[- ]\w+|capitali[sz]ation ratio|leverage ratio|invested capital|gearing", f"{_DEBT}, total equity"),
    (
        r"(?:inventory|stock) turnover|days (?:of )?inventory|\bdio\b",
        f"{_COST}; {_BALANCE} inventories",
    ),
    (r"receivables? turnover|days sales outstanding|\bdso\b", f"{_SALES}; {_BALANCE} accounts receivable"),
    (r"payables? turnover|days payables? outstanding|\bdpo\b", f"{_COST}; {_BALANCE} accounts payable"),
    (r"(?:fixed |total )?assets? turnover", f"{_SALES}; {_ASSETS}, property and equipment"),
    (r"to (?:net )?(?:sales|revenues?)\b", _SALES),
    (r"cash flows? to\b|cash flow ratio", f"{_CASH} net cash provided by operating activities; {_CURRENT}"),
    (r"cash conversion", f"{_COST}; {_BALANCE} inventories, accounts receivable, accounts payable"),
    (r"income exceed|exceed\w* (?:its |their )?(?:expen[ds]|cost)", "surplus, net income"),
    (r"free cash flow", f"{_CASH} net cash provided by operating activities, purchases of property and equipment"),
    (r"cap(?:ital )?ex(?:penditures?)?\b", f"{_CASH} purchases of property and equipment"),
    (r"dividend payout|retention ratio", f"{_CASH} dividends paid; {_NET}"),
)


_PROFIT = re.compile(r"(?:make|made|turn|earn)\w* (?:a |any )?(?:profit|loss)\b|profitable", re.IGNORECASE)


class Derived(NamedTuple):
    """A figure as a question names it, and the names of the lines that it is worked out from; both empty for none."""

    name: str
    lines: str


def derived_figure(question: str) -> Derived:
    """What a question asks for, if it is such a figure. Whether there was a profit is told by lines of other names."""
    if _PROFIT.search(question):
        return Derived("", f"{_NET}, surplus, deficit")
    found = [(match[0], lines) for figure, lines in _LINES if (match := re.search(figure, question, re.IGNORECASE))]
    return Derived(" ".join(name for name, _ in found), "; ".join(lines for _, lines in found))
