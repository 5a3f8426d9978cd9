"""HSNet (Min, Kang and Cho, ICCV 2021)."""
