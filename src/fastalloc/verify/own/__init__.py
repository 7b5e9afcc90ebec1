"""Files of one's own, policies and allocators, put to the test before they are believed."""
