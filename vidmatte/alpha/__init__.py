"""What happens to the alpha between network and output."""
