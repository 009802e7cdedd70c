"""What stands between us and a server: keys, addresses, proxies, deadlines, retries, and what a server refuses."""
