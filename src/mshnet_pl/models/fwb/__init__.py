"""FWB (Nguyen and Todorovic, ICCV 2019)."""
