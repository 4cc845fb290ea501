"""How a page is made from a template: escaped, strict, and with nothing to load.

A page is one file: styles and drawings are inline, and there is no script. Whatever comes from a
document is escaped. All pages of the project share `page.css.j2`.
"""

import jinja2


def page_environment(*packages: str) -> jinja2.Environment:
    """An environment that finds templates in the given packages, and the shared style here."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader(each, ".") for each in (*packages, "sordino_audit")]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["power"] = power_of_ten
    return environment


def power_of_ten(value: float) -> str:
    """A small number with its power of ten: 1e-5 is 10 with a raised minus five."""
    mantissa, exponent = f"{value:.1e}".split("e")
    digits = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{digits}" if mantissa == "1.0" else f"{mantissa} \N{MULTIPLICATION SIGN} 10{digits}"
