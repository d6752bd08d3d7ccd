"""How a coordinator is reached: URLs, proxies, certificates, and why a connection failed."""
