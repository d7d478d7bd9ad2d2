"""A package, so that what is of its tests (`scope="package"`) ends with the last of them."""
