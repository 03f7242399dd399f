"""What only the book and its experiments need: experiments, arms, analyses, tables, the band."""
