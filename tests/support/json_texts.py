"""Hypothesis strategies for JSON values and for the ways to write them."""

from hypothesis import strategies as st

_NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
SIGNS = st.text(st.sampled_from('[]{},:"\\\n\t é😀u'))
VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | SIGNS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SIGNS | st.text(), inner, max_size=4),
    max_leaves=8,
)
LAYOUTS = st.fixed_dictionaries(
    {
        "indent": st.sampled_from([None, 0, 3, "\t"]),
        "separators": st.sampled_from([(",", ":"), (" , ", " : "), (",\r\n", ":\t")]),
        "ensure_ascii": st.booleans(),
    }
)
